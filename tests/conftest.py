"""One thread, no display, and artifacts in a folder of this run; the datasets stay where the user has them."""
import os, shutil, tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")

from lsd_nb.data import data_dir

os.environ["LSD_NB_DATA"] = str(data_dir())
CACHE = tempfile.mkdtemp(prefix="lsd_nb-tests-")
os.environ["LSD_NB_CACHE"] = CACHE


def pytest_unconfigure(config):
    shutil.rmtree(CACHE, ignore_errors=True)

"""lsd_nb: a labelled orthogonal basis for any generative model's latent space."""

from lsd_nb.core import LSDError
from lsd_nb.data import load_dataset, mnist
from lsd_nb.gan import Discriminator, GANConfig, Generator
from lsd_nb.classifier import Classifier, ClassifierConfig
from lsd_nb.encoder import Encoder, EncoderConfig
from lsd_nb.latents import LabelledMeans, encode_labelled, sample_labelled
from lsd_nb.basis import LatentBasis, amplitudes, orthogonalise
from lsd_nb.operators import Operator, householder_swap, plane_rotation, projector, rank_one_rotation, rotation_path, truncate
from lsd_nb.decomposition import LatentSpectralDecomposition, load_pretrained
from lsd_nb.explore import Explorer
from lsd_nb.export import export_onnx

__version__ = "0.1.0"
__all__ = [
    "LSDError", "load_dataset", "mnist", "Generator", "Discriminator", "GANConfig", "Classifier", "ClassifierConfig",
    "Encoder", "EncoderConfig", "LabelledMeans", "encode_labelled", "sample_labelled", "LatentBasis", "amplitudes", "orthogonalise",
    "Operator", "projector", "rank_one_rotation", "plane_rotation", "householder_swap", "rotation_path", "truncate",
    "LatentSpectralDecomposition", "load_pretrained", "Explorer", "export_onnx",
]

"""lsd_nb: a labelled orthogonal basis for any generative model's latent space.

The public names stand in `__init__.pyi`, where editors and type checkers see them. Each is imported
when it is first used, so that `import lsd_nb` alone costs next to nothing.
"""

import lazy_loader

__version__ = "0.2.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

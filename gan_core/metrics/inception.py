from pathlib import Path

from torch import nn

PUBLISHED_NAME = "weights-inception-2015-12-05-6726825d.pth"
class InceptionV3(nn.Module):
    name = "inception-v3"
def load_inception(path: Path) -> InceptionV3: raise NotImplementedError
def fetch_weights(folder: Path) -> Path: raise NotImplementedError
def is_published(digest: str) -> bool: return False

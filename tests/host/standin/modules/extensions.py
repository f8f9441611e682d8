import os

from modules import paths_internal


class Extension:
    def __init__(self, name, path):
        self.name, self.path, self.enabled = name, path, True

    def list_files(self, subdir, extension):
        folder = os.path.join(self.path, subdir)
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        return [os.path.join(folder, name) for name in names if name.lower().endswith(extension)]


def active():
    folder = paths_internal.extensions_dir
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [Extension(name, os.path.join(folder, name)) for name in names if os.path.isdir(os.path.join(folder, name))]

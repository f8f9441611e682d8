import argparse
import os
from pathlib import Path

_parser = argparse.ArgumentParser(add_help=False)
_parser.add_argument("--data-dir", default=os.getcwd())
_parser.add_argument("--models-dir")
_given = _parser.parse_known_args()[0]

script_path = str(Path(__file__).resolve().parents[1])
data_path = str(Path(_given.data_dir).absolute())
models_path = _given.models_dir or os.path.join(data_path, "models")
extensions_dir = os.path.join(data_path, "extensions")
extensions_builtin_dir = os.path.join(script_path, "extensions-builtin")

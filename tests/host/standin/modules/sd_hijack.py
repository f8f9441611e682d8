from pathlib import Path

from modules.shared_cmd_options import cmd_opts


class EmbeddingDatabase:
    def __init__(self):
        self.word_embeddings = {}

    def load_textual_inversion_embeddings(self, force_reload=False):
        files = sorted(Path(cmd_opts.embeddings_dir).glob("*"))
        self.word_embeddings = {
            path.stem: path.read_bytes() for path in files if path.suffix in (".pt", ".safetensors")
        }


class StableDiffusionModelHijack:
    def __init__(self):
        self.embedding_db = EmbeddingDatabase()


model_hijack = StableDiffusionModelHijack()

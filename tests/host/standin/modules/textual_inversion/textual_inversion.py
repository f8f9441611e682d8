def create_embedding(name, num_vectors_per_token, overwrite_old, init_text="*"):
    return f"{name}.pt"


def train_embedding(*arguments, **settings):
    return object(), "trained.pt"

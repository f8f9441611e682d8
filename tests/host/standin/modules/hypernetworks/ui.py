import modules.hypernetworks.hypernetwork
from modules import devices, shared


def train_hypernetwork(*args):
    try:
        _, filename = modules.hypernetworks.hypernetwork.train_hypernetwork(*args)
        return f"Hypernetwork saved to {filename}", ""
    finally:  # also where it has failed
        shared.sd_model.to(devices.device)

"""Ways to train. A method is five verbs, and the loop knows no more of it:

prepare(backbone, accelerator, weight_dtype, saved, step)  take the models, as they are before `step`
parameter_groups()                                         what learns, as optimizer groups with name, rate and params
loss(batch, generator)                                     a scalar, with its graph
state_dict() / load_state_dict()                           what has been learned, by component
export(path, ...)                                          the file that users take away

Two can be asked before there is a model: problems(config, base) (what does not go together) and share(config, base)
(how much learns). Beside them: enter(step) (some groups may stop learning there), averaged() (parameters of the moving
average) and about() (what the file says of itself). Previews draw with the `backbone`.
"""

from .full import FullWeights
from .hypernetwork import HypernetworkTraining
from .lora import LoRA
from .textual_inversion import TextualInversion
from .unconditional import Unconditional

METHODS = {
    "dreambooth": FullWeights,
    "finetune": FullWeights,
    "lora": LoRA,
    "textual_inversion": TextualInversion,
    "hypernetwork": HypernetworkTraining,
    "unconditional": Unconditional,
}

"""What a rare word is worth for a base, which others are better, and what the base draws for it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.captions import rare_words
from ...core.captions.clip_vocabulary import VOCABULARIES
from ...core.config import links
from ...core.config.parsing import shown
from ...core.config.run_config import RunConfig
from ...core.errors import UserError
from ..drawing.device_jobs import RUNNING, DeviceJobs, Task
from ..drawing.drawing_job import counting
from ..errors import Refusal
from ..hosts import path_policy
from ..runs.run_index import is_component

if TYPE_CHECKING:
    from ..hosts.host import Host

FOLDER = "words"  # in the runs' folder: <id>/0_<seed>.png
KIND = "word"
PICTURES = 4
STEPS = 20
LONGEST = 60  # letters of a word
MOST_KEPT = 50  # words whose pictures are kept


class WordCheck:
    """Judges words by the vocabulary alone, at once; draws for them when asked, as a job."""

    def __init__(self, host: Host, jobs: DeviceJobs, runs_dir: Path):
        self.host, self.jobs, self.folder = host, jobs, runs_dir / FOLDER

    def check(self, word: str, base: str) -> dict[str, Any]:
        """{"word", "level", "reason", "tokens", "suggestions", "drawn": as `drawn`}. Raises UserError and a Refusal."""
        word, base = self._known(word, base)
        vocabulary = VOCABULARIES.of_base(base)
        answer = {"suggestions": rare_words.suggestions(vocabulary), "drawn": self.drawn(word, base)}
        return {**rare_words.report(word, vocabulary).as_dict(), **answer}

    def _known(self, word: str, base: str) -> tuple[str, str]:
        if len(word) > LONGEST:
            raise UserError("drawing.too_long", "word", most=LONGEST)
        path_policy.check_paths(RunConfig(base_model=base), self.host)
        return word.strip(), base or self.host.current_base()

    def draw(self, word: str, base: str) -> dict[str, Any]:
        """Begin to draw the word alone with the base; answers as `drawn`. Raises what `DeviceJobs.start` does."""
        word, base = self._known(word, base)
        if not word:
            raise UserError("words.no_word", "word")
        if not base:
            raise UserError("drawing.no_base", "base_model")
        place = self.folder / _id(word, base)
        pictures = [place / f"0_{seed}.png" for seed in range(PICTURES)]
        options = {"model": base, "prompt": word, "out": place, "num-images": PICTURES, "seed": 0, "steps": STEPS}
        words, variables = links.handed(["generate", *(f"--{name}={value}" for name, value in options.items())])
        device, mode = self.jobs.dispatcher.device_called("auto"), self.host.option("while_training")
        task = Task(KIND, place.name, words, device, mode, variables, total=PICTURES, done=counting(pictures))

        def prepare() -> None:
            self._tidy()
            for path in pictures:
                path.unlink(missing_ok=True)

        self.jobs.start(task, prepare)
        return self.drawn(word, base)

    def drawn(self, word: str, base: str) -> dict[str, Any]:
        """{"id", "state": none | drawing | done | failed | stopped, "done", "total", "problem", "pictures": [file]}"""
        id = _id(word, base)
        answer: dict[str, Any] = {"id": id, "state": "none", "done": 0, "total": PICTURES, "problem": ""}
        if job := self.jobs.of(KIND, id):
            state = "drawing" if job["state"] in RUNNING else job["state"]
            problem = {name: value for name, value in job.items() if name.startswith("problem")}
            answer |= {"state": state, "done": job["done"], **problem}
        names = [f"0_{seed}.png" for seed in range(PICTURES)]
        return {**answer, "pictures": [name for name in names if (self.folder / id / name).is_file()]}

    def picture(self, id: str, file: str) -> Path:
        """Raises a Refusal (404)."""
        path = self.folder / id / file if is_component(id) and is_component(file) else self.folder
        if path.suffix != ".png" or not path.is_file() or not path_policy.inside(path, [self.folder]):
            raise Refusal(404, "drawing.no_picture", "file", file=shown(file))
        return path

    def _tidy(self) -> None:
        """Forget the pictures of words that were drawn long ago."""
        if not self.folder.is_dir():
            return
        known = sorted(self.folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for place in known[MOST_KEPT:]:
            for path in place.glob("0_*.png"):
                path.unlink(missing_ok=True)
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()


def _id(word: str, base: str) -> str:
    return hashlib.sha256(f"{links.bare(base) if links.is_link(base) else base}\n{word}".encode()).hexdigest()[:16]

"""Real photographs that came after the doctor's thresholds were chosen: from packages of Debian 12 and PyPI. Some rules
were changed on every second of them since (docs/measurements.md).

`apt-get download NAME` and `dpkg -x FILE DIR` for the packages of Debian; `pip download --no-deps --no-binary :all:`
and `tar -xf` into DIR for thumbor and smartcrop, `pip install --target DIR --no-deps` for ultralytics. None of them is
in this repository. Pictures with words or frames laid over them, drawings, scans and screens are left out.
"""

from __future__ import annotations

from collections.abc import Iterable

BACKGROUNDS, CV = "usr/share/backgrounds", "usr/share/doc/opencv-doc/examples/data"
LXQT, PLASMA, MATE = "usr/share/lxqt/wallpapers", "usr/share/wallpapers", "usr/share/backgrounds/mate/nature"
THUMBOR = "thumbor-7.8.0/tests/fixtures/images"

# mate-backgrounds 1.26.0
NATURE = "Aqua Blinds Dune FreshFlower Garden GreenMeadow LadyBird RainDrops Storm TwoWings Wood YellowFlower"
# lomiri-wallpapers-16.04 and -20.04, 20.04.0
LOMIRI = (
    "Bridge_by_Sander_Klootwijk Dragonfly_by_Bolly Kleiber_by_Lukas_Baubkus Picture_0B_by_freespace "
    "Wine_by_Jakkub_Mede aitzgorri_by_Aitzol_Berasategi free_by_Peter_Nerlich friends_by_Aitzol_Berasategi "
    "greentock_by_Peter_Nerlich life_by_Aitzol_Berasategi picosdeeuropa_by_Aitzol_Berasategi "
    "seeding_by_Clements_Engelhardt sunset_by_Aitzol_Berasategi"
)
# lxqt-themes 1.2.0
SMALL = (
    "Butterfly-Kenneth-Wimer.jpg Valendas.png after-the-rain.jpg appleflower.png butterfly.png cloud.png drop.png "
    "flowers.png fog.jpg this-is-not-windows.jpg"
)
# plasma-workspace-wallpapers 5.27.5
LARGE = "BytheWater ColdRipple ColorfulCups EveningGlow FallenLeaf Grey Kite OneStandsOut Path summer_1am"
# opencv-doc 4.6.0
SAMPLES = (
    "aero1.jpg aero3.jpg aloeL.jpg apple.jpg baboon.jpg basketball1.png board.jpg box_in_scene.png building.jpg "
    "butterfly.jpg cards.png ela_original.jpg fruits.jpg graf1.png home.jpg left01.jpg leuvenA.jpg orange.jpg "
    "rubberwhale1.png smarties.png squirrel_cls.jpg stuff.jpg"
)
# thumbor 7.8.0, smartcrop 0.5.0, ultralytics 8.4.190
PEOPLE = (
    f"{THUMBOR}/10_years_of_Wikipedia_by_Guillaume_Paumier.jpg",
    f"{THUMBOR}/Christophe_Henner_-_June_2016.jpg",
    f"{THUMBOR}/Giunchedi%2C_Filippo_January_2015_01.jpg",
    "thumbor-7.8.0/thumbor/fixtures/filters/source.jpg",
    *(f"smartcrop-0.5.0/tests/images/{name}.jpg" for name in ("business-work-1", "nature-1", "travel-1")),
    "ultralytics/assets/bus.jpg",
    "ultralytics/assets/zidane.jpg",
)


def _within(folder: str, names: Iterable[str], ending: str = "") -> list[str]:
    return [f"{folder}/{name}{ending}" for name in names]


PATHS = [
    *_within(MATE, NATURE.split(), ".jpg"),
    *_within(BACKGROUNDS, LOMIRI.split(), ".jpg"),
    *_within(LXQT, SMALL.split()),
    *_within(PLASMA, LARGE.split(), "/contents/images/2560x1600.jpg"),
    *_within(CV, SAMPLES.split()),
    *PEOPLE,
]

# Faults that these have by themselves, seen by eye (after the doctor had named them): a blown ground, a movement, mist,
# dusk in a wood, a small face without detail, JPEG's blocks
REAL_FAULTS = {
    f"{MATE}/Aqua.jpg": {"bright"},
    f"{BACKGROUNDS}/Kleiber_by_Lukas_Baubkus.jpg": {"bright"},
    f"{BACKGROUNDS}/free_by_Peter_Nerlich.jpg": {"bright"},
    f"{MATE}/Storm.jpg": {"blurred"},
    f"{MATE}/Wood.jpg": {"flat"},
    f"{LXQT}/fog.jpg": {"flat", "dark"},
    f"{PLASMA}/Path/contents/images/2560x1600.jpg": {"dark"},
    f"{CV}/basketball1.png": {"blurred"},
    f"{CV}/left01.jpg": {"compressed"},
    f"{CV}/stuff.jpg": {"compressed"},
}

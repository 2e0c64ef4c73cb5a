"""What is done to a page while it is measured: BertViz's and ours, the same acts on both."""

from __future__ import annotations

from collections.abc import Callable

from browser_meter import Meter

Act = Callable[[Meter], tuple[float, float]]

HOVERS = range(3, 13)
THEIR_READY = "#vis svg"
OUR_READY = "html[data-ready]"


def hovering(script: str) -> Act:
    """Point at one token after another; ``%d`` in the script is the token."""
    return lambda meter: meter.act([script % at for at in HOVERS], "html")


def their_acts(view: str) -> dict[str, Act]:
    """What is done to a page of BertViz."""
    layer = (
        'const menu = document.querySelector("#layer"); menu.value = "1";'
        ' menu.dispatchEvent(new Event("change"));'
    )
    point = (
        'document.querySelectorAll("%s text")[%%d].parentNode'
        '.dispatchEvent(new MouseEvent("mouseover", {bubbles: true}));'
    )
    expand = (
        'document.querySelectorAll("#collapsed .plus-sign")[0].nextElementSibling'
        '.dispatchEvent(new MouseEvent("click", {bubbles: true}));'
    )
    return {
        "heads": {
            "hover": hovering(point % "#left"),
            "layer": lambda meter: meter.act([layer], "#attention line"),
        },
        "model": {},
        "neuron": {
            "expand": lambda meter: meter.act([expand], "#expanded"),
            "hover": hovering(point % "#expanded #leftText"),
            "layer": lambda meter: meter.act([layer], "#expanded"),
        },
    }[view]


def our_acts(view: str) -> dict[str, Act]:
    """The same done to our page."""
    press = 'dispatchEvent(new KeyboardEvent("keydown", {key: "%s"}));'
    point = (
        "document.querySelector(\".view:not([hidden]) .tokens-left [data-token='%d']\")"
        '.dispatchEvent(new PointerEvent("pointerover", {bubbles: true}));'
    )
    expand = 'document.querySelector(".view:not([hidden]) .expander").click();'
    shown = 'html[data-ready][data-shown*="%s"]'
    layer = {"layer": lambda meter: meter.act([press % "j"], shown % "layer=1")}
    return {
        "heads": {"hover": hovering(point), **layer},
        "model": {},
        "neuron": {
            "expand": lambda meter: meter.act([expand], shown % "expanded=1"),
            "hover": hovering(point),
            **layer,
        },
    }[view]

"""The published OpenAPI document: it tells of every address, and every answer is as it says."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from asking import Asker
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from qkvault_viewer import create_app
from qkvault_viewer.openapi import QUERY
from qkvault_viewer.operations import OPERATIONS
from qkvault_viewer.routes import ROOT
from vaults import make_encoder_decoder_vault

if TYPE_CHECKING:
    import schemathesis

ADDRESS = f"{ROOT}/openapi.json"
GOLDEN = Path(__file__).parents[1] / "golden"
DOCS = Path(__file__).parents[2] / "docs" / "viewer-api.md"

REFUSING = {"negative_data_rejection": {"expected-statuses": [400, 404, 413]}}
SOUND = {
    "q": ["rain", '"the cat"', "mus*"],
    "where": ["{}", '{"label": 1}', '{"length": {"min": 9}}'],
    "sort": ["length", "columns.source", "entropy[1,0]"],
    "id": ["r00000", "r00011"],
    "layers": ["0:1", "1:2", "0:2"],
    "rows": ["0:5", "1:2"],
    "parts": ["value", "key,query"],
    "index": list(range(12)),
    "stack": ["encoder"],
    "layer": [1, 4],
    "head": list(range(4)),
    "query": list(range(5)),
    "key": list(range(5)),
}


@pytest.fixture(scope="module")
def document(asker: Asker) -> dict[str, Any]:
    published: dict[str, Any] = asker.json(ADDRESS)
    return published


def test_it_is_openapi_and_told_of_in_the_docs(document: Mapping[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert ADDRESS in DOCS.read_text(encoding="utf-8")
    names = [each["get"]["operationId"] for each in document["paths"].values()]
    assert names == [operation.name for operation in OPERATIONS]


def test_it_has_every_address_of_the_api_and_no_other(
    asker: Asker, document: Mapping[str, Any]
) -> None:
    served = {
        re.sub(r"<(?:nat:)?([a-z]+)>", r"{\1}", rule.rule)
        for rule in asker.app.url_map.iter_rules()
        if rule.rule.startswith(ROOT)
    }
    assert set(document["paths"]) == served


def test_parameters_are_those_that_are_taken(asker: Asker, document: Mapping[str, Any]) -> None:
    """Each parameter told of is known at its address, and each other one is refused there."""
    for address, methods in document["paths"].items():
        described = methods["get"]["parameters"]
        path = address
        for each in described:
            if each["in"] == "path":
                value = {"store": "some-pairs", "tag": asker.base.rpartition("/")[2]}.get(
                    each["name"]
                ) or str(SOUND[each["name"]][0])
                path = path.replace(f"{{{each['name']}}}", value)
        told = {each["name"] for each in described if each["in"] == "query"}
        for name in QUERY:
            answer = asker.get(f"{path}?{name}=")
            unknown = answer.status_code == 400 and "unknown parameter" in answer.text
            assert unknown == (name not in told), (address, name, answer.text)


def test_documents_of_every_kind_of_vault_are_as_published(
    document: Mapping[str, Any], tmp_path: Path
) -> None:
    """Vaults of each release, and one of an encoder-decoder, whose examples have targets."""
    checker = pytest.importorskip("jsonschema_rs", reason="schemathesis is not installed")
    vaults = sorted(GOLDEN.glob("*/*.vault"))
    assert len(vaults) >= 4
    vaults.append(make_encoder_decoder_vault(tmp_path / "two.vault"))
    asker = Asker(create_app(vaults))
    checked: Counter[str] = Counter()
    for store in asker.app.extensions["qkvault"].values():
        for name, address in (
            ("Manifest", store.url),
            ("Columns", f"{store.base}/columns"),
            ("Examples", f"{store.base}/examples"),
            ("Position", f"{store.base}/position/0"),
            *(("Example", f"{store.base}/ex/{index}") for index in range(len(store.vault))),
        ):
            schema = {**document["components"]["schemas"][name]}
            checker.Draft202012Validator(schema).validate(asker.json(address))
            checked[name] += 1
    assert checked["Manifest"] == len(vaults)


def narrowed(document: Mapping[str, Any], asker: Asker) -> dict[str, Any]:
    """The document with what there is in the vault for values, so that requests find something."""
    fixed = copy.deepcopy(dict(document))
    values = {**SOUND, "store": ["some-pairs"], "tag": [asker.base.rpartition("/")[2]]}
    for methods in fixed["paths"].values():
        for each in methods["get"]["parameters"]:
            if each["name"] in values:
                each["schema"] = {"enum": values[each["name"]]}
        methods["get"]["parameters"] = [
            each for each in methods["get"]["parameters"] if each["name"] != "cursor"
        ]
    return fixed


def fuzz(asker: Asker, schema: Any, mode: Any, cases: int, folder: Path) -> Counter[int]:
    """Ask each operation of a schema so many times; how often each status was answered."""
    answered: Counter[int] = Counter()
    schema.app = asker.app

    def ask(case: schemathesis.Case) -> None:
        answer = case.call()
        answered[answer.status_code] += 1
        assert bytes(folder) not in answer.content
        case.validate_response(answer)
        assert case.call(headers={"Host": "evil.com"}).status_code == 400

    for found in schema.get_all_operations():
        strategy = found.ok().as_strategy(generation_mode=mode)
        checked = settings(
            max_examples=cases,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        with suppress(Unsatisfiable) if mode.is_negative else nullcontext():
            # Where any text will do for every parameter there is nothing to be wrong about.
            checked(given(case=strategy)(ask))()
    return answered


def test_sound_requests_are_answered_as_published(
    asker: Asker, document: Mapping[str, Any], vault_path: Path
) -> None:
    api = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    schema = api.openapi.from_dict(narrowed(document, asker))
    answered = fuzz(asker, schema, api.GenerationMode.POSITIVE, 3, vault_path.parent)
    assert set(answered) == {200}
    assert answered[200] >= 35


@pytest.mark.slow
def test_six_hundred_requests_made_from_the_document(
    asker: Asker, document: Mapping[str, Any], vault_path: Path
) -> None:
    api = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    sound, unsound = api.GenerationMode.POSITIVE, api.GenerationMode.NEGATIVE
    answered: Counter[int] = Counter()
    for made, mode in (
        (narrowed(document, asker), sound),
        (dict(document), sound),
        (dict(document), unsound),
    ):
        schema = api.openapi.from_dict(made, config=api.Config.from_dict({"checks": REFUSING}))
        answered += fuzz(asker, schema, mode, 20, vault_path.parent)
    print(sorted(answered.items()))
    assert answered.total() >= 600
    assert answered[200] >= 200

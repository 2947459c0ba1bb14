"""Certificates: what would fool the numbers is found in sets that are wrong in a known way; no digit can be changed."""

import json
from pathlib import Path

import numpy as np
import pytest

from ddpm.datasets import sources
from ddpm.evaluation import certificate, scores

SCHEMA = Path(__file__).parents[2] / "docs" / "certificate.schema.json"


@pytest.fixture(scope="module")
def digits():
    return sources.load("digits")


@pytest.fixture(scope="module")
def made(digits):
    x, c = digits.x_test[:60], digits.y_test[:60]
    measures = scores.score_images(x, c, digits, None)
    asked = {"data": "digits", "classifier": "", "seed": 0, "inception": False}
    return certificate.certify(x, c, digits, None, measures, asked)


def seen(digits, x, c=None):
    return {f["what"]: f for f in certificate.fooled(x, c, digits, None, {})}


def test_sets_that_are_wrong_in_a_known_way(digits):
    x, c = digits.x_test[:60].copy(), digits.y_test[:60]
    assert not any(f["seen"] for f in seen(digits, x, c).values())
    spoilt = x.copy()
    spoilt[7] = spoilt[3]  # a duplicate
    spoilt[20:26] = digits.x_train[:6]  # a tenth are copies
    spoilt[40] = 99  # one is constant
    found = seen(digits, spoilt, np.where(c == 4, 5, c))
    assert found["duplicates"]["examples"] == [7] and found["duplicates"]["found"] == 1 / 60
    assert found["copies of training images"]["examples"] == list(range(20, 26))
    assert found["constant images"]["examples"] == [40]
    assert found["missing classes"]["examples"] == [4] and all(f["seen"] for f in found.values())


def test_both_forms_hold_the_same_and_a_changed_digit_is_refused(made, tmp_path):
    for name in ("a.json", "a.html"):
        certificate.write(tmp_path / name, made)
        assert certificate.read(tmp_path / name) == made
        text = (tmp_path / name).read_text()
        (tmp_path / f"b{name}").write_text(
            text.replace('"n": 60', '"n": 61')
            if name == "a.json"
            else text.replace("&quot;n&quot;: 60", "&quot;n&quot;: 61")
        )
        with pytest.raises(ValueError, match="was changed"):
            certificate.read(tmp_path / f"b{name}")
    page = (tmp_path / "a.html").read_text().lower()
    assert "<script" not in page and "http" not in page and "src=" not in page


def test_names_are_escaped(made, tmp_path):
    evil = json.loads(json.dumps(made))
    evil["fooled"][0]["why"] = "</pre><script>alert(1)</script>"
    page = certificate.page(evil)
    assert "<script" not in page and "&lt;/pre&gt;" in page


def test_what_is_no_certificate_is_refused(made, tmp_path):
    for name, text in (("x.json", "{}"), ("y.html", "<p>"), ("z.json", "not json")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match="is no certificate"):
            certificate.read(tmp_path / name)
    with pytest.raises(ValueError, match=r"ends in \.json or \.html"):
        certificate.suffix(tmp_path / "x.txt")


def test_differences_name_what_differs(made):
    assert certificate.differences(made, made) == []
    other = json.loads(json.dumps(made))
    key = next(iter(other["measures"]))
    other["measures"][key]["value"] *= 1.01
    other["data"]["sha256"] = "0"
    other["fooled"][0]["found"] += 0.1
    words = certificate.differences(made, other)
    assert len(words) == 3 and any("duplicates" in w for w in words) and any("data: sha256 is 0" in w for w in words)


def test_the_schema_fits(made):
    jsonschema = pytest.importorskip("jsonschema", reason="the schema is checked with the package jsonschema")
    schema = json.loads(SCHEMA.read_text())
    jsonschema.validate(made, schema)
    for part in schema["required"]:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({k: v for k, v in made.items() if k != part}, schema)

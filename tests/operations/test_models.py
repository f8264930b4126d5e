from pantry.operations.models import with_told


def test_what_a_manifest_tells_stands_beside_the_licence_of_the_header() -> None:
    facts = {"licence": "cc-by-nc-4.0", "context": 2048}
    told = {"licence": "mit", "family": "", "version": "1.0.0"}
    assert with_told(facts, told) == {
        "licence": "mit",
        "header_licence": "cc-by-nc-4.0",
        "context": 2048,
        "version": "1.0.0",
    }
    assert with_told(facts, {"licence": None}) == facts

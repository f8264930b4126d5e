"""Whether a chat template is safe to render: an allow-list over Jinja's syntax tree."""

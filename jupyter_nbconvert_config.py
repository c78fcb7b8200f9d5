"""Settings of `jupyter nbconvert`: the template "lab" drops the alt text of figures."""

c = get_config()  # noqa: F821
c.HTMLExporter.template_name = "classic"

"""`clipmk schema`: the JSON Schema of everything printed with --json."""

from clipmk_tui.cli.streams import data_stream


def schema() -> None:
    """Print the JSON Schema (draft 2020-12) of all JSON output."""
    from clipmk.output.document import schema_text  # noqa: PLC0415

    with data_stream() as stream:
        stream.write(schema_text())

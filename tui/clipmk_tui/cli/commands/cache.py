"""`clipmk cache`: the embedded vocabularies that are kept on disk."""

import typer

from clipmk.system.locations import CacheInfo, cache_info, clear_cache
from clipmk.system.text import byte_size
from clipmk_tui.cli import options as o
from clipmk_tui.cli import tables

app = typer.Typer(help="Look at, or empty, the cache of embedded vocabularies (CLIPMK_CACHE_DIR moves it).")


@app.command("info")
def info(json: o.Json = False, no_color: o.NoColor = False, debug: o.Debug = False) -> int:
    """Show where the cache is and how much it holds."""
    return _print(cache_info(), cleared=False, json=json, no_color=no_color)


@app.command("clear")
def clear(json: o.Json = False, no_color: o.NoColor = False, debug: o.Debug = False) -> int:
    """Remove what clipmk cached, and nothing else; downloaded models stay."""
    return _print(clear_cache(), cleared=True, json=json, no_color=no_color)


def _print(found: CacheInfo, *, cleared: bool, json: bool, no_color: bool) -> int:
    content = {"path": str(found.path), "files": found.files, "bytes": found.bytes, "cleared": cleared}
    rows = [("folder", found.path), ("removed" if cleared else "files", found.files), ("size", byte_size(found.bytes))]
    return tables.put_facts(content, rows, json=json, no_color=no_color)

"""The commands of `clipmk`: a module or a package each, named in `clipmk_tui.cli.main`."""

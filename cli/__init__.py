"""Words for people: the command line. typer and rich live only in this room."""

"""``python -m neuroprobe`` is the command line."""

from neuroprobe.cli import main

main()

"""`python -m cluster` is the same as `perennial`."""

import sys

if not __package__:
    sys.exit("perennial: `python cluster` puts the folder cluster/ on the import path; run `perennial` or `python -m cluster`")

from cluster.cli import main

sys.exit(main())

import sys

from gwproto_cli.command import main

sys.exit(main())

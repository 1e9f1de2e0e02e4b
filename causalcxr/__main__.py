"""`python -m causalcxr`: the command line, where the script is not on the path."""

from causalcxr.apps.cli.main import main

__all__: list[str] = []

if __name__ == "__main__":
    main()

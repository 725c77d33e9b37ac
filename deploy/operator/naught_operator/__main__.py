"""`python -m naught_operator`."""

from naught_operator.run import main

if __name__ == "__main__":
    main()

"""`python -m llmrec`, which the launcher starts in each process."""

from llmrec.cli.main import main

if __name__ == "__main__":
    main()

"""`python -m classify_client` is `classify-client`."""

from classify_client.cli.main import main

main(prog_name="classify-client")

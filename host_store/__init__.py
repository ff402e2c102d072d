"""The host side: stores for encrypted records, the enclave process, the web server, the command line. Not trusted."""

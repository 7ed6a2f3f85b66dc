module holdfast.dev/tests/tlsclient

go 1.26.0

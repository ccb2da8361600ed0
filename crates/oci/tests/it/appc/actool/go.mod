module kiln/actool

go 1.17

require github.com/appc/spec v0.8.11

require (
	github.com/coreos/go-semver v0.3.1 // indirect
	github.com/google/gofuzz v1.2.0 // indirect
	github.com/spf13/pflag v1.0.5 // indirect
	go4.org v0.0.0-20230225012048-214862532bf5 // indirect
	golang.org/x/net v0.17.0 // indirect
	gopkg.in/inf.v0 v0.9.1 // indirect
)

module json-health

go 1.24

require monmon v0.0.0

replace monmon => ../sdk/go

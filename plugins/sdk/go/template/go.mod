module plugin-name

go 1.24

require monmon v0.0.0

replace monmon => ./monmon-sdk

module packet

go 1.24

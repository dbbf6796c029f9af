module packet

go 1.26.8

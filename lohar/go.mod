module bhatti/lohar

go 1.21

require golang.org/x/sys v0.20.0

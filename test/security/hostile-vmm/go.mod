module hostile-vmm

go 1.24

module monmon

go 1.24

module deploy-window

go 1.24

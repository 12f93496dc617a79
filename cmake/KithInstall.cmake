# What `cmake --install` puts where is described in docs/install.md. (Grows with the libraries.)

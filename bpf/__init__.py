"""The datapath: C sources that the BPF loader compiles; see mesh.c. No Python code."""

"""How generated code is confined: what the kernel offers (Landlock, seccomp, bubblewrap), found by trying it."""

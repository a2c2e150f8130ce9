"""Which tiles a kernel goes by: `python -m kernels_pallas.tune`.

    python -m kernels_pallas.tune --target=h200,v6e --op=rms_norm --out=t.json
    python -m kernels_pallas.tune

The first compiles every tile for chips that need not be here, and says which
fit: what does not fit the memory, or spills, is pruned. The second, on a chip,
times those that are left and keeps the fastest for devices of its kind
(`tuned`), where it is faster than the tile that is computed. Prove the kernel
after that: a proof holds for the tiles that it was made with.
"""

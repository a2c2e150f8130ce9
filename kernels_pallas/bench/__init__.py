"""What the ops move and take: `python -m kernels_pallas.bench`.

    python -m kernels_pallas.bench --compile-only --target=h200,v6e
    python -m kernels_pallas.bench --op=rms_norm --out=results.json

The first compiles every implementation of every op for chips that need not be
here, and counts bytes, kernels, registers and spills. The second times them on
this machine's device.
"""

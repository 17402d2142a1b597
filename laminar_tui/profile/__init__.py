"""What is measured: parts, counts, densities and numbers of attention weights. numpy only."""

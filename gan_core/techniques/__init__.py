"""Options that several families offer: noise, dropout, unrolling."""

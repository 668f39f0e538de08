"""What can be done. Remedies are strangers to each other and reach the world through egress only."""

"""What failures teach: occurrences become known issues, remedies are bound to them and credited by proof."""

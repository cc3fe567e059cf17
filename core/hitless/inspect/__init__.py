"""What tables in a memory image say, whether they obey the static rules, and how two images differ."""

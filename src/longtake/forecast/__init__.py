"""What a run takes on more processes than are here."""

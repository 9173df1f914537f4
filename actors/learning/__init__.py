"""Pure numerics: numpy, torch and pyarrow values in, values out. No Ray, no input or output, no clock."""

def write(results, minutes):
    pass

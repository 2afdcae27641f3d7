from tests.results.records import main

main()
